"""Faults to plant in the CUDA kernels, each of which the simulator's checks must catch (test_faults.py)."""

from faults_band_gradient import BAND_GRADIENT
from faults_band_sum import BAND_SUM
from faults_fma import FMA

FAULTS = (*BAND_SUM, *BAND_GRADIENT, *FMA)
