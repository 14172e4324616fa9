// Runs under node: PACKAGE_FOLDER JOBS.json, opens every model in onnxruntime-web and runs it.
//
// JOBS.json holds {jobs: [{model, feeds, outputs}], rounds, seconds}. `feeds` is a list of rounds, each
// {name: {type, dims, file}}; tensors are raw little-endian files. Every job's outputs are written
// as raw files into `outputs`, with an index.json of their types and dims. With `rounds` above 0 all
// jobs of one `group` are timed in turn, round after round, for about `seconds` a job and round.
// One line of JSON is printed per job.

import { createRequire } from 'node:module';
import { readFileSync, writeFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, jobsFile] = process.argv.slice(2);
const require = createRequire(join(folder, 'package.json'));
const ort = await import(pathToFileURL(require.resolve('onnxruntime-web')).href);
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'error';

const ARRAYS = {
  float32: Float32Array, int32: Int32Array, int64: BigInt64Array, uint8: Uint8Array,
  int8: Int8Array, bool: Uint8Array, float64: Float64Array, uint16: Uint16Array, int16: Int16Array,
};

function tensor({ type, dims, file }) {
  const bytes = readFileSync(file);
  const copy = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  return new ort.Tensor(type, new ARRAYS[type](copy), dims);
}

function feedOf(round) {
  return Object.fromEntries(Object.entries(round).map(([name, spec]) => [name, tensor(spec)]));
}

function write(outputs, round, found) {
  return Object.entries(found).map(([name, value], position) => {
    const file = `${round}_${position}.raw`;
    writeFileSync(join(outputs, file), Buffer.from(value.data.buffer, value.data.byteOffset, value.data.byteLength));
    return { round, name, file, type: value.type, dims: value.dims };
  });
}

async function open(job) {
  const session = await ort.InferenceSession.create(readFileSync(job.model), {
    executionProviders: ['wasm'], graphOptimizationLevel: 'all', intraOpNumThreads: 1,
  });
  mkdirSync(job.outputs, { recursive: true });
  const index = [];
  const feeds = job.feeds.map(feedOf);
  for (const [round, feed] of feeds.entries()) index.push(...write(job.outputs, round, await session.run(feed)));
  writeFileSync(join(job.outputs, 'index.json'), JSON.stringify(index));
  return { session, feed: feeds[0] };
}

async function once({ session, feed }, count) {
  const started = performance.now();
  for (let i = 0; i < count; i++) await session.run(feed);
  return (performance.now() - started) / count;
}

// Interleaved: the machine's mood is the same for all models of a group.
async function time(opened, rounds, seconds) {
  const counts = [];
  for (const one of opened) {
    const first = Math.min(await once(one, 1), await once(one, 1));
    counts.push(Math.max(1, Math.min(2000, Math.ceil((seconds * 1000) / Math.max(first, 0.001)))));
  }
  const found = opened.map(() => []);
  for (let round = 0; round < rounds; round++) {
    for (const [i, one] of opened.entries()) found[i].push(await once(one, counts[i]));
  }
  return found;
}

const { jobs, rounds, seconds } = JSON.parse(readFileSync(jobsFile, 'utf8'));
console.log(JSON.stringify({ onnxruntime: ort.env.versions.web ?? ort.env.versions.common, node: process.version }));
for (const group of [...new Set(jobs.map((job) => job.group))]) {
  const opened = [];
  for (const job of jobs.filter((one) => one.group === group)) {
    try {
      opened.push({ job, ...(await open(job)) });
    } catch (error) {
      console.log(JSON.stringify({ name: job.name, failed: String(error).slice(0, 300) }));
    }
  }
  const times = rounds > 0 ? await time(opened, rounds, seconds) : [];
  for (const [i, one] of opened.entries()) {
    console.log(JSON.stringify({ name: one.job.name, ms: times[i] ?? [] }));
    await one.session.release();
  }
}
process.exit(0);
