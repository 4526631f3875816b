"""Evaluations measure a pre-training: one module for each registered one."""
