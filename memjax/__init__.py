"""memjax: what has a generative model memorized, and how sure are we?"""

from memjax.folds import make_folds as make_folds
from memjax.likelihood import importance_log_prob as importance_log_prob
from memjax.scores.memorization import memorization_score as memorization_score
from memjax.scores.memorization import memorization_test as memorization_test
from memjax.version import __version__ as __version__
