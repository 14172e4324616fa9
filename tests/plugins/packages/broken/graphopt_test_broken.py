"""A plugin that cannot be imported: it needs something that is not installed."""

import graphopt_test_module_that_nobody_has

__all__ = ["graphopt_test_module_that_nobody_has"]
