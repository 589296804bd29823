"""The shelf of benchmarks: `tamtctl.tasks.benchmarks.table` has a row for each."""
