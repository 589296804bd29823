"""The sections of a comparison's report; `tamtctl.comparison.sections.table` lists them."""
