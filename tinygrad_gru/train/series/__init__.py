"""Training on the rows of a table in the order of time: a forecaster of a number, or a classifier."""
