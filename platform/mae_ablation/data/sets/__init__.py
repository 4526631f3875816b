"""The images that a recipe can name: a module for each registered data set."""
