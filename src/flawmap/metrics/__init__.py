"""Measures of how well scores separate normal from anomalous; numpy only."""

from flawmap.metrics.bootstrap import Estimate as Estimate
from flawmap.metrics.defect_size import SIZE_CLASS_MEANING as SIZE_CLASS_MEANING
from flawmap.metrics.defect_size import size_class as size_class
from flawmap.metrics.evaluation_size import at_evaluation_size as at_evaluation_size
from flawmap.metrics.image_metrics import image_estimates as image_estimates
from flawmap.metrics.image_metrics import image_estimates_by as image_estimates_by
from flawmap.metrics.pixel_pool import PixelPool as PixelPool
from flawmap.metrics.pixel_pool import PixelPools as PixelPools
from flawmap.metrics.pixel_pool import count_pixels as count_pixels
from flawmap.metrics.ranking import BinnedScores as BinnedScores
from flawmap.metrics.ranking import auroc as auroc
from flawmap.metrics.ranking import average_precision as average_precision
from flawmap.metrics.ranking import f1_max as f1_max
from flawmap.metrics.ranking import fpr_at_tpr as fpr_at_tpr
from flawmap.metrics.rates import Threshold as Threshold
from flawmap.metrics.rates import threshold_for_false_alarm_rate as threshold_for_false_alarm_rate
from flawmap.metrics.rates import wilson_interval as wilson_interval
from flawmap.metrics.score_drift import Drift as Drift
from flawmap.metrics.score_drift import score_drift as score_drift
