"""The laboratory: data sets, training, other methods, accuracy, the paper's study.

Programs that run live don't need it.
"""
