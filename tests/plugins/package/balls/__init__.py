"""A package that adds a network, a method, a recipe and a data set to deepatlas_tf."""
