"""memjax: what has a generative model memorized, and how sure are we?"""

from memjax import rejection as rejection
from memjax.duplicates import near_duplicates as near_duplicates
from memjax.embeddings.embed import embed as embed
from memjax.folds import make_folds as make_folds
from memjax.likelihood import importance_log_prob as importance_log_prob
from memjax.neighbors import nearest_neighbors as nearest_neighbors
from memjax.rejection.threshold import rejection_mask as rejection_mask
from memjax.rejection.threshold import (
  rejection_threshold as rejection_threshold,
)
from memjax.scores.authenticity import authenticity as authenticity
from memjax.scores.copying import copying_test as copying_test
from memjax.scores.coverage import coverage_test as coverage_test
from memjax.scores.coverage import precision_recall as precision_recall
from memjax.scores.data_copying import (
  classwise_data_copying as classwise_data_copying,
)
from memjax.scores.data_copying import data_copying_test as data_copying_test
from memjax.scores.dcr import dcr_share as dcr_share
from memjax.scores.distance_ratio import distance_ratio as distance_ratio
from memjax.scores.distance_ratio import memorized_samples as memorized_samples
from memjax.scores.feature_likelihood import (
  feature_likelihood_divergence as feature_likelihood_divergence,
)
from memjax.scores.frechet import frechet_distance as frechet_distance
from memjax.scores.gap_ratio import gap_ratio as gap_ratio
from memjax.scores.inception_score import inception_score as inception_score
from memjax.scores.kernel import kernel_distance as kernel_distance
from memjax.scores.membership import (
  membership_inference as membership_inference,
)
from memjax.scores.memorization import memorization_score as memorization_score
from memjax.scores.memorization_null import (
  memorization_test as memorization_test,
)
from memjax.scores.mifid import (
  memorization_informed_frechet as memorization_informed_frechet,
)
from memjax.scores.two_sample import (
  neighbor_mixing_test as neighbor_mixing_test,
)
from memjax.stats import exchange_test as exchange_test
from memjax.version import __version__ as __version__
