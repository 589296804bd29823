"""The shelf of kinds of task: `tamtctl.tasks.kinds.table` has a row for each."""
