"""The page of each error code: how it comes about, and what to do."""

from __future__ import annotations

from graphopt.cli.finding_pages import FINDING_PAGES

PAGES: dict[str, tuple[str, str]] = {
    "G000": (
        "Something failed that has no code of its own; an internal error has this code as well.",
        "Read the message. For an internal error, run the same command with `--debug` and report "
        "what it prints.",
    ),
    "G101": (
        "The file is not TOML, or not UTF-8. The place is where the parser gave up, which may be "
        "a line after the fault: an unclosed quote or bracket is the usual one.",
        "Mend the line. `graphopt recipe show PRESET` prints a recipe to compare with.",
    ),
    "G102": (
        "A recipe may hold only keys that graphopt knows, so that a misspelt one is never ignored.",
        "Mend or remove the key. The hint names the closest one that exists.",
    ),
    "G103": (
        "A value has another type than its key takes, or lies outside the range of the key.",
        "The message says what is expected. `graphopt passes NAME` lists the options of a pass.",
    ),
    "G104": (
        "The options of a pass are exactly those that `graphopt passes NAME` lists.",
        "Mend or remove the option, in the recipe or after `--set`.",
    ),
    "G105": (
        "No pass of that name is built in or provided by a plugin that could be loaded.",
        "`graphopt passes` lists the passes, `graphopt plugins` the plugins and their faults.",
    ),
    "G106": (
        "No preset of that name ships with graphopt, and no file has that path.",
        "Name one of the presets in the hint, or give the path of a recipe file.",
    ),
    "G107": (
        "The recipe states under `requires` a plugin, or a version of it, that is not there.",
        "Install it with pip, or take it out of `requires` if no pass of it is used.",
    ),
    "G108": (
        "An argument or option on the command line, or the value of a GRAPHOPT_ variable, is not "
        "what the command takes.",
        "`graphopt COMMAND --help` lists what there is.",
    ),
    "G109": (
        "The recipe file does not exist, is a folder, or may not be read.",
        "Check the path and the permissions. A preset is named without `.toml`.",
    ),
    "G110": (
        "The option needs packages that graphopt itself does not: `--html` makes its page with "
        "jinja2 and matplotlib.",
        'The hint names the extra to install, such as `pip install "graphopt[html]"`. Without '
        "it the same facts are in the JSON beside the model.",
    ),
    "G201": (
        "The file does not exist, is a folder, may not be read, or ends too early.",
        "Check the path, the permissions, and whether the download was complete.",
    ),
    "G202": (
        "The content does not parse as an ONNX model. A pointer file of Git LFS, a web page saved "
        "in place of the file, and a model of another framework all look like this.",
        "Look at the first bytes of the file, and fetch or export it again.",
    ),
    "G203": (
        "The model keeps weights in another file, which is missing or holds fewer bytes than the "
        "model says.",
        "Put the data file beside the model under the name in the message.",
    ),
    "G204": (
        "The model names a data file by an absolute path, or by one that leaves the model's "
        "folder. graphopt does not follow it: a model from elsewhere could read any file.",
        "Move the data beside the model and save the model with a relative path.",
    ),
    "G205": (
        "The graph breaks a rule of ONNX: a name is defined twice, a tensor is used that nothing "
        "produces, nodes form a cycle, or types do not agree.",
        "The message names the node or tensor. Export the model again, or mend it.",
    ),
    "G206": (
        "The model uses a newer operator set than the installed onnxruntime runs.",
        "Update onnxruntime, or export the model with the opset in the message.",
    ),
    "G207": (
        "The runtime has no kernel for an operator: a custom one without its library, or a type "
        "that the operator is not implemented for.",
        "Export without the operator, or compile with `--no-measure` for a runtime that has it.",
    ),
    "G208": (
        "The output cannot be written: its folder does not exist or may not be written, the disk "
        "is full, or it is the input itself. What was there before is unchanged.",
        "Name another file with `--output`.",
    ),
    "G209": (
        "Subgraphs are nested deeper, or a tensor claims to be larger, than any real model needs. "
        "Such a file is broken or made to do harm.",
        "Export the model again from a source that you trust.",
    ),
    "G211": (
        "The data does not exist, or is of no kind that a reader understands: .npz, .npy, a folder "
        "of these, or a folder of images with preprocessing in the recipe.",
        "Check the path. Plugins may add readers for other kinds.",
    ),
    "G212": (
        "An array has another name, shape or element type than the model's input.",
        "Name the arrays of an .npz as the inputs are named: `graphopt inspect MODEL` lists them. "
        "An array of the input's rank is split along axis 0 into samples.",
    ),
    "G213": (
        "The file or folder was read, and there is not one sample in it.",
        "Check the path.",
    ),
    "G214": (
        "A sample holds NaN or infinity, from which no range can be measured.",
        "Take the sample out. The message names the file, the input and the sample.",
    ),
    "G215": (
        "The runtime opened the model and failed to run it.",
        "The message holds the runtime's own words. Try `graphopt bench MODEL` on the original.",
    ),
    "G216": (
        "A largest drop was stated, and there is nothing to judge it by: no data, no labels with a "
        "model whose output does not decide between classes, a metric that needs labels, a metric "
        "that cannot be taken of the model's first output and these labels, or fewer than two "
        "samples that nothing was calibrated on.",
        "Add an array `labels` with one entry per sample, name a metric with "
        "`--set limits.metric=NAME` (agreement, kl, cosine and spearman compare with the original "
        "and need no labels), or state `--min-snr`, which needs none either.",
    ),
    "G217": (
        "Noise is measured between a float model and the same model quantized. Here the model is "
        "quantized already and its original was not given, or nothing in it could be quantized, "
        "or the two models have no tensor names in common. Or a tensor, or one of its axes, was to "
        "be explained that the model does not have.",
        "Analyse the float model, or give it with `--reference` beside the quantized one. Tensors "
        "are those of the simplified model, as `graphopt analyze MODEL --pruning` names them.",
    ),
    "G218": (
        "A shape or size was given for an input or symbol that the model does not have, of another "
        "rank, against what the model fixes, or twice with different sizes. Or a node of the model "
        "was exported for another size and cannot have this one.",
        "`graphopt inspect MODEL` lists inputs and their symbols. What a model fixes cannot be "
        "changed: export it again.",
    ),
    "G301": (
        "A pass raised an error. Its changes were undone, and the compile went on without it; "
        "with `--strict` it stopped.",
        "For a pass of a plugin, report it to the plugin. `--set` may avoid the case.",
    ),
    "G302": (
        "After the pass the graph broke a rule of ONNX. Its changes were undone.",
        "Report it with the model, to the plugin if the pass is of one. The compile goes on "
        "without the pass unless `--strict` is given.",
    ),
    "G303": (
        "A pass that promises the same function changed the outputs on probe inputs by more than "
        "the limit. Its changes were undone.",
        "`--max-error` raises the limit, if the difference is rounding in a long chain.",
    ),
    "G304": (
        "After the pass the runtime fuses fewer operators than before, so that the model would be "
        "slower. Its changes were undone.",
        "Nothing has to be done. `-v` shows the checks of every pass.",
    ),
    "G305": (
        "A pass said that it changed the graph and did not, or the reverse.",
        "The pass is at fault: report it, to the plugin if the pass is of one.",
    ),
    "G306": (
        "The outputs moved further from the original than the recipe allows. The changes of the "
        "pass were undone.",
        "Give more or better calibration data, exclude the operators that `--explain` blames, or "
        "lower `--min-snr`.",
    ),
    "G307": (
        "What is left of the model gives outputs that diverge from the original's by more than "
        "`limits.max-divergence`, on samples that nothing was fitted to. Without training, such a "
        "model is seldom of use, so nothing was removed.",
        "Ask for less, give more samples, or raise `limits.max-divergence` to have it anyway.",
    ),
    "G308": (
        "Even everything that can be removed does not make the model as small or as fast as asked. "
        "Inputs, outputs, and what operators without a coupling rule touch, stay.",
        "Ask for less. `graphopt analyze --pruning MODEL` shows what can be removed, and why the "
        "rest cannot.",
    ),
    "G309": (
        "After units were removed the model did not compute what the original computes when "
        "nothing listens to them, or would no longer run. This is a fault in a coupling rule.",
        "Report the model's operators. `--set prune-channels.exclude=…` keeps the layer as it is.",
    ),
    "G310": (
        "A pass wrote into a constant or an attribute in place. Copies of a graph share those, so "
        "the graph before the pass is gone as well, and nothing was written.",
        "The pass is at fault: report it. Until it is mended, compile without it, or with "
        "`--no-plugins`.",
    ),
    "G311": (
        "A largest drop was stated, and the result loses more on the validation samples. Operators "
        "are returned to float until a drop is kept, but units that were pruned do not come back.",
        "Prune less with `--prune-to`, or allow more with `--max-drop`. `--keep` writes the model "
        "all the same.",
    ),
    "G401": (
        "Importing a plugin raised an error, most often because something that it needs is not "
        "installed. It is ignored; everything else works.",
        "Install what is missing, or remove the plugin. `graphopt plugins` shows its fault.",
    ),
    "G402": (
        "Two plugins provide a thing of the same name. The built-in one wins, then the plugin "
        "whose name sorts first.",
        "Write `plugin:name` in the recipe to choose one, or remove one of them.",
    ),
    "G403": (
        "A plugin implements a hook that this graphopt does not have, or with other arguments.",
        "Update the plugin or graphopt, whichever is the older one.",
    ),
    "G404": (
        "A hook of a plugin returned something of the wrong kind, such as an object in place of "
        "a class, or a pass whose class is not a frozen dataclass.",
        "Report it to the plugin. Everything else of the plugin works.",
    ),
    "G501": (
        "No target has that name or alias, and no file has that path.",
        "`graphopt targets` lists the targets.",
    ),
    "G502": (
        "The file of the target lacks a field, has one too many, or one of the wrong type.",
        "The message names the field. `graphopt targets NAME --format json` shows a good one.",
    ),
    "G503": (
        "The weights or the activations need more memory than the target has.",
        "Choose a smaller model or a larger target. `graphopt estimate MODEL --target NAME` shows "
        "where the peak is.",
    ),
    "G504": (
        "The file is not what `device.pyz` wrote, was changed since, or is of the models of "
        "another graphopt. It comes from another machine, so every line is checked before it is "
        "used. Or this machine could not be measured.",
        "Measure again with the archive that `graphopt profile --bundle` writes, and copy the "
        "whole file.",
    ),
    "G506": (
        "The table of `graphopt profile --from` lacks a column or a number, has fewer than three "
        "models, or mixes numbers of threads.",
        "Write `model,ms` or `model,ms,threads` into the first line, then one line per model, the "
        "paths relative to the table. The message names the line.",
    ),
    "G507": (
        "Of all models that were tried, none keeps the stated accuracy within the stated budgets. "
        "The message names the nearest, and by how much it exceeds what.",
        "Allow more, give more data, or let `graphopt search` try more with `--effort thorough`; "
        "what was made is kept and used again. `--keep` writes the nearest.",
    ),
    "G601": (
        "An executor is named by a URL, and no plugin that could be loaded has its scheme.",
        "`pip install graphopt-dask` brings `tcp://` and `tls://`, a scheduler of dask. "
        "`graphopt plugins` lists the plugins and their faults.",
    ),
    "G602": (
        "A task was given to three workers, one after another, and each of them died. Mostly the "
        "system killed them because memory ran out. Tasks of which one or two workers die are "
        "done again, and are not reported.",
        "Use fewer workers at a time, or workers with more memory.",
    ),
    "G603": (
        "A worker has another version of graphopt, onnxruntime, onnx or numpy, or another kind of "
        "processor. Results would depend on who computes them.",
        "Install on the workers what the message names, in the version that is here.",
    ),
    "G604": (
        "The scheduler does not answer, has no worker, or has dropped the tasks.",
        "Check the address, that the scheduler runs, and that workers have joined it. Then run the "
        "command again.",
    ),
    "G605": (
        "A worker process ended before it said that it was ready. In a script of your own that "
        "happens where graphopt is called at the top of the file, which each worker imports.",
        "Call graphopt below `if __name__ == '__main__':`, or use one worker.",
    ),
    "G606": (
        "A model or data file for the workers cannot be read, lies outside the folder of the file "
        "it belongs to, did not arrive whole, or changed while it was worked on.",
        "Check the path and the permissions, and leave the files alone while workers read them.",
    ),
    "W211": (
        "Without samples the ranges of activations are unknown, so nothing was quantized. The "
        "model was only cleaned up, without any loss.",
        "Give some typical inputs with `--data`; a hundred are plenty, and they need no labels.",
    ),
    "W212": (
        "There are so few samples to judge on that a model which decides the same on all of them "
        "could still lose more than the stated drop on others of their kind. The drop that was "
        "measured is kept, but says little: 1 point takes about 400 samples, 0.2 points 2000.",
        "Give more samples: those that are not calibrated on are judged on.",
    ),
    "W213": (
        "Nobody gave samples, so layers were fitted to random images that were chosen for having "
        "the means and variances that the model's BatchNormalization nodes remember of its "
        "training data. The divergence of the outputs, and what `max-divergence` is compared with, "
        "were measured on such images too: on real ones it is likely to be larger.",
        "Give a few hundred typical inputs with `--data`; they need no labels. Else judge the "
        "model on data of your own before it is used.",
    ),
    "W303": (
        "The model rejects the inputs that were made up for it, often because some of its inputs "
        "depend on each other, so no pass could be checked on outputs.",
        "Give a few real samples with `--data`.",
    ),
    "W304": (
        "Executed as it is written, the original gives other outputs than after the runtime's own "
        "optimiser, by more than rounding explains; or it does not run as it is written. The first "
        "is a fault of the runtime, or the model depends on the order of additions. Passes were "
        "checked against the original as it is written.",
        "Compare with the framework that the model is from, and update onnxruntime.",
    ),
    "W306": (
        "No model with any operator in integers kept the stated signal-to-noise ratio or drop, so "
        "none is quantized. The report says what the quantized model reached.",
        "Run `graphopt analyze MODEL --quantization --data FILE` to see which operators lose the "
        "accuracy and why, give more typical data, or allow more.",
    ),
    "W405": (
        "`--recover` asks for training: what was compressed learns from the original model. That "
        "takes the plugin graphopt-torch, which is not installed or was left out; or the recipe "
        "neither prunes nor quantizes, so that nothing was lost that could be won back. The rest "
        "was done as without it.",
        "`pip install graphopt-torch`, and see with `graphopt plugins` that it is loaded. "
        "`--recover off`, or leaving it out, asks for nothing.",
    ),
    "W501": (
        "Timed against the original on this machine, the compiled model was slower, with integer "
        "operators and without. Very small models and busy machines do this.",
        "Run it again on an idle machine, or compile for a named target, which uses the estimate.",
    ),
    "W502": (
        "onnxruntime does not run on this target. The model was checked with onnxruntime on this "
        "machine, in the integer types of the target.",
        "Check the model once more with the runtime of the target.",
    ),
    "W503": (
        "Timing needs the original and the result open at once, which would take more memory than "
        "compiling does. The result was checked part by part instead.",
        "Run `graphopt bench` where there is room for both models.",
    ),
    "W504": (
        "Something went wrong while placements were tried or the accuracy was planned. Everything "
        "that can be was made integer instead; what that costs was still checked.",
        "Report it with the model, or say a placement yourself with "
        "`--set insert-qdq.placement=integer`.",
    ),
    "W505": (
        "The target is for estimates: its rules and figures were read in documents, and nobody has "
        "executed what graphopt makes for it.",
        "Check outputs and time on the device itself, and report what you find.",
    ),
    **FINDING_PAGES,
}
"""By code: the cause, and the remedy."""
