"""Memorization Rejection: a generator does not learn from its near-copies.

Generic: it wraps the loss of any generator, in any framework whose functions
are pure JAX. An index of embedded training items says how near a sample is to
the nearest of them; what is too near is left out of the generator's update
(`rejecting_loss`), or never leaves a sampler (`guard`).
"""

from memjax.rejection.index import Nearest as Nearest
from memjax.rejection.index import TrainingIndex as TrainingIndex
from memjax.rejection.index import host_distance as host_distance
from memjax.rejection.index import make_index as make_index
from memjax.rejection.index import nearest as nearest
from memjax.rejection.loss import POLICIES as POLICIES
from memjax.rejection.loss import Rejection as Rejection
from memjax.rejection.loss import rejecting_loss as rejecting_loss
from memjax.rejection.sampling import GuardedSamples as GuardedSamples
from memjax.rejection.sampling import guard as guard
