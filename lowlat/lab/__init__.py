"""The laboratory: data sets, training, other methods, accuracy, the paper's study.

No program that runs live needs it.
"""
