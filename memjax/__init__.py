"""memjax: what has a generative model memorized, and how sure are we?"""

from memjax.analysis.stats import exchange_test as exchange_test
from memjax.duplicates import near_duplicates as near_duplicates
from memjax.folds import make_folds as make_folds
from memjax.likelihood import importance_log_prob as importance_log_prob
from memjax.neighbors import nearest_neighbors as nearest_neighbors
from memjax.scores.authenticity import authenticity as authenticity
from memjax.scores.copying import copying_test as copying_test
from memjax.scores.coverage import coverage_test as coverage_test
from memjax.scores.coverage import precision_recall as precision_recall
from memjax.scores.data_copying import data_copying_test as data_copying_test
from memjax.scores.distance_ratio import distance_ratio as distance_ratio
from memjax.scores.distance_ratio import memorized_samples as memorized_samples
from memjax.scores.frechet import frechet_distance as frechet_distance
from memjax.scores.memorization import memorization_score as memorization_score
from memjax.scores.memorization import memorization_test as memorization_test
from memjax.scores.two_sample import (
  neighbor_mixing_test as neighbor_mixing_test,
)
from memjax.version import __version__ as __version__
