"""What a pre-training is measured by: a module for each registered evaluation."""
