"""What is in a data set, and what is wrong with it: statistics, schema and anomalies, as TFX has them."""
