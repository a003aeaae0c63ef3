"""Measures of how well scores separate normal from anomalous; numpy only."""

from flawmap.metrics.ranking import BinnedScores as BinnedScores
from flawmap.metrics.ranking import auroc as auroc
from flawmap.metrics.rates import Threshold as Threshold
from flawmap.metrics.rates import threshold_for_false_alarm_rate as threshold_for_false_alarm_rate
from flawmap.metrics.rates import wilson_interval as wilson_interval
