"""A small diffusion model of points: an MLP that predicts the noise in them.

With its defaults it is the model of tiny-diffusion, the skeleton of Outliers
Memorized Last (2023): 99,074 parameters, 50 steps, β from 1e-4 to 0.02. Note
that 50 steps of that schedule do not reach noise: √ᾱ is still 0.78 at the last
one, while sampling starts from N(0, I). With 250 or more it does.
"""

import dataclasses
import functools
import math
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from memjax import validate
from memjax.models import layers
from memjax.models.base import Variables

__all__ = [
  'SCHEDULES',
  'Denoiser',
  'NoiseSchedule',
  'add_noise',
  'denoise',
  'make_schedule',
  'sinusoidal_embedding',
]

SCHEDULES = ('linear', 'quadratic')

# π/2 in three parts, the first two short, so that multiples of it are exact.
_HALF_PI = (1.5703125, 4.837512969970703125e-4, 7.549789954891882e-8)
# sin r = r + r³ P(r²) and cos r = 1 − r²/2 + r⁴ Q(r²) on [−π/4, π/4], to 1e-8.
_SIN = (-1.6666654611e-1, 8.3321608736e-3, -1.9515295891e-4)
_COS = (4.166664568298827e-2, -1.388731625493765e-3, 2.443315711809948e-5)


class NoiseSchedule(NamedTuple):
  """How noise grows over T steps, and what a step back is.

  Attributes:
    beta: variance that step t adds.
    alpha_bar: ᾱ_t = Π_{s ≤ t} (1 − β_s), the share of the signal's variance.
    x0_weight: of x₀ in the mean of q(x_{t−1} | x_t, x₀).
    xt_weight: of x_t in it.
    variance: of q(x_{t−1} | x_t, x₀), at least 1e-20; not used at t = 0.
  """

  beta: Float[np.ndarray, ' _']
  alpha_bar: Float[np.ndarray, ' _']
  x0_weight: Float[np.ndarray, ' _']
  xt_weight: Float[np.ndarray, ' _']
  variance: Float[np.ndarray, ' _']


@functools.lru_cache
def make_schedule(
  num_steps: int,
  kind: str = 'linear',
  *,
  first: float = 1e-4,
  last: float = 0.02,
) -> NoiseSchedule:
  """The schedule of tiny-diffusion, in float32 as there.

    q(x_{t−1} | x_t, x₀) = N(β_t √ᾱ_{t−1}/(1 − ᾱ_t) x₀
                             + (1 − ᾱ_{t−1}) √(1 − β_t)/(1 − ᾱ_t) x_t,
                             β_t (1 − ᾱ_{t−1})/(1 − ᾱ_t) I)

  The range of β does not depend on T. In float32 the weight of x₀ in the last
  step back comes out as 0.99983 instead of 1; that is kept, since it is part
  of the published model.

  Args:
    num_steps: T ≥ 2.
    kind: 'linear' in β, or 'quadratic': linear in √β.
    first: β of step 0.
    last: β of step T − 1.

  Raises:
    ValueError: an argument out of range.

  Example:
    >>> round(float(make_schedule(50).alpha_bar[-1]), 4)
    0.603
  """
  validate.integer('num_steps', num_steps, 2)
  validate.one_of('schedule', kind, SCHEDULES)
  first = validate.real('first', first, 0.0, 1.0, strict=True)
  last = validate.real('last', last, 0.0, 1.0, strict=True)
  if kind == 'linear':
    beta = np.linspace(first, last, num_steps, dtype=np.float32)
  else:
    root = np.linspace(first**0.5, last**0.5, num_steps, dtype=np.float32)
    beta = np.square(root)
  one = np.float32(1)
  alpha_bar = np.cumprod(one - beta, dtype=np.float32)
  before = np.concatenate([[one], alpha_bar[:-1]])
  return NoiseSchedule(
    beta=beta,
    alpha_bar=alpha_bar,
    x0_weight=beta * np.sqrt(before) / (one - alpha_bar),
    xt_weight=(one - before) * np.sqrt(one - beta) / (one - alpha_bar),
    variance=np.maximum(beta * (one - before) / (one - alpha_bar), 1e-20),
  )


def add_noise(
  schedule: NoiseSchedule,
  x: Float[Array, 'b d'],
  noise: Float[Array, 'b d'],
  t: Int[Array, ' b'],
) -> Float[Array, 'b d']:
  """Draws from q(x_t | x₀): √ᾱ_t x₀ + √(1 − ᾱ_t) ε.

  Args:
    schedule: of T steps.
    x: x₀.
    noise: ε.
    t: in 0 … T − 1, one a point.
  """
  alpha_bar = jnp.asarray(schedule.alpha_bar)[t][:, None]
  return jnp.sqrt(alpha_bar) * x + jnp.sqrt(1 - alpha_bar) * noise


def denoise(
  schedule: NoiseSchedule,
  x: Float[Array, 'b d'],
  predicted: Float[Array, 'b d'],
  t: Int[Array, ''],
  noise: Float[Array, 'b d'],
) -> Float[Array, 'b d']:
  """One ancestral step: draws from q(x_{t−1} | x_t, x̂₀).

    x̂₀ = (x_t − √(1 − ᾱ_t) ε̂)/√ᾱ_t, which is not clipped.

  Args:
    schedule: of T steps.
    x: x_t.
    predicted: ε̂, the model's prediction of the noise in x_t.
    t: the step that all points are at; at 0 no noise is added.
    noise: standard normal.
  """
  _, alpha_bar, x0_weight, xt_weight, variance = (
    jnp.asarray(array)[t] for array in schedule
  )
  x0 = (x - jnp.sqrt(1 - alpha_bar) * predicted) / jnp.sqrt(alpha_bar)
  mean = x0_weight * x0 + xt_weight * x
  return mean + jnp.where(t > 0, jnp.sqrt(variance), 0.0) * noise


def sinusoidal_embedding(
  x: Float[Array, ' b'], dim: int = 128, scale: float = 1.0
) -> Float[Array, 'b dim']:
  """[sin(s·f·x), cos(s·f·x)] for dim/2 frequencies f from 1 down to 1e-4.

    f_j = 10000^{−j/(dim/2 − 1)},  j = 0 … dim/2 − 1

  Args:
    x: one number a point.
    dim: even, 4 or more.
    scale: s.

  Example:
    >>> round(sinusoidal_embedding(jnp.array([7.0]))[0, 0].item(), 4)
    0.657
  """
  half = dim // 2
  frequency = np.exp(-math.log(10000.0) * np.arange(half) / (half - 1))
  angle = (scale * x)[:, None] * frequency.astype(np.float32)[None]
  return jnp.concatenate(_sin_cos(angle), axis=1)


def _sin_cos(angle: Float[Array, 'b f']) -> tuple[jax.Array, jax.Array]:
  """Both at once, to 1e-7 for |angle| < 10⁴; half the time of XLA's on CPU."""
  quarter = jnp.round(angle * np.float32(2 / math.pi))
  rest = angle
  for part in _HALF_PI:
    rest = rest - quarter * np.float32(part)
  square = rest * rest
  sin = rest + rest * square * _polynomial(square, _SIN)
  cos = 1 - square / 2 + square * square * _polynomial(square, _COS)
  quarter = quarter.astype(jnp.int32)
  is_odd = quarter & 1 == 1
  sin, cos = jnp.where(is_odd, cos, sin), jnp.where(is_odd, sin, cos)
  sin = jnp.where(quarter & 2 == 2, -sin, sin)
  return sin, jnp.where((quarter + 1) & 2 == 2, -cos, cos)


def _polynomial(x, coefficients):
  return functools.reduce(
    lambda total, c: total * x + np.float32(c), coefficients[::-1], 0.0
  )


def _gelu(x):
  """x Φ(x), by the error function as PyTorch has it, not by tanh."""
  return 0.5 * x * (1 + jax.lax.erf(x * np.float32(math.sqrt(0.5))))


class _Network(nn.Module):
  """(x_t, t) → ε̂: embeddings, one hidden layer, residual blocks, linear."""

  hidden: int
  num_blocks: int
  embedding_dim: int
  input_scale: float

  @nn.compact
  def __call__(
    self, x: Float[Array, 'b d'], t: Float[Array, ' _']
  ) -> Float[Array, 'b d']:
    """Maps [b, d]; t has b entries, or one for all points."""
    embed = functools.partial(sinusoidal_embedding, dim=self.embedding_dim)
    coordinates = [embed(c, scale=self.input_scale) for c in x.T]
    inputs = jnp.concatenate(coordinates, axis=1)
    width = inputs.shape[1] + self.embedding_dim
    initializer = layers.uniform_fan_in(width)
    kernel = self.param('kernel', initializer, (width, self.hidden))
    bias = self.param('bias', initializer, (self.hidden,))
    # The first layer's two products apart: while sampling, all points are at
    # one t, whose product then is that of a single row.
    of_time = embed(t) @ kernel[inputs.shape[1] :] + bias[None]
    h = _gelu(inputs @ kernel[: inputs.shape[1]] + of_time)
    for _ in range(self.num_blocks):
      h = h + _gelu(layers.Dense(self.hidden)(h))
    return layers.Dense(x.shape[1])(h)


@dataclasses.dataclass(frozen=True)
class Denoiser:
  """Denoising diffusion of points in d dimensions.

  Implements `memjax.models.base.DensityModel` for points [b, d].

  Attributes:
    num_features: d.
    num_steps: T.
    schedule_kind: 'linear' or 'quadratic'.
    hidden: width of all layers.
    num_blocks: residual blocks h + GELU(Wh + b).
    embedding_dim: of the sinusoidal embedding of each coordinate and of t.
    input_scale: what coordinates are multiplied by before that.

  Example:
    >>> model = Denoiser(num_steps=10, hidden=8)
    >>> variables = model.init(jax.random.key(0))
    >>> model.sample(variables, jax.random.key(1), 5).shape
    (5, 2)

  Reference:
    Ho et al. (2020), Algorithms 1 and 2; tiny-diffusion.
  """

  num_features: int = 2
  num_steps: int = 50
  schedule_kind: str = 'linear'
  hidden: int = 128
  num_blocks: int = 3
  embedding_dim: int = 128
  input_scale: float = 25.0
  is_convolutional: bool = dataclasses.field(default=False, init=False)

  def __post_init__(self):
    validate.integer('num_features', self.num_features, 1)
    validate.integer('hidden', self.hidden, 1)
    validate.integer('num_blocks', self.num_blocks, 0)
    validate.integer('embedding_dim', self.embedding_dim, 4)
    if self.embedding_dim % 2:
      raise ValueError(
        f'embedding_dim={self.embedding_dim}: expected an even number.'
      )
    validate.real('input_scale', self.input_scale, 0.0, strict=True)
    make_schedule(self.num_steps, self.schedule_kind)

  @property
  def schedule(self) -> NoiseSchedule:
    """The noise of T steps."""
    return make_schedule(self.num_steps, self.schedule_kind)

  @property
  def _network(self) -> _Network:
    return _Network(
      self.hidden, self.num_blocks, self.embedding_dim, self.input_scale
    )

  def init(self, key: jax.Array) -> Variables:
    """Draws initial variables, as PyTorch's linear layers do."""
    x = jnp.zeros((1, self.num_features))
    return dict(self._network.init(key, x, jnp.zeros(1)))

  def predict_noise(
    self, variables: Variables, x: Float[Array, 'b d'], t: Int[Array, ' _']
  ) -> Float[Array, 'b d']:
    """ε̂ of x_t; t has an entry for each point, or one for all."""
    return jnp.asarray(self._network.apply(variables, x, t.astype(x.dtype)))

  def loss(
    self,
    variables: Variables,
    x: Float[Array, 'b d'],
    mask: Bool[Array, ' b'],
    key: jax.Array,
  ) -> tuple[Float[Array, ''], Variables]:
    """Σ over a batch's real points of |ε − ε̂|²/d, at one random t each."""
    t_key, noise_key = jax.random.split(key)
    t = jax.random.randint(t_key, (len(x),), 0, self.num_steps)
    noise = jax.random.normal(noise_key, x.shape)
    x = jnp.where(mask[:, None], x, 0.0)
    noisy = add_noise(self.schedule, x, noise, t)
    error = jnp.square(noise - self.predict_noise(variables, noisy, t))
    return jnp.where(mask, error.mean(axis=1), 0.0).sum(), {}

  def sample(
    self,
    variables: Variables,
    key: jax.Array,
    num_samples: int,
    *,
    block_size: int | None = None,
  ) -> Float[Array, 'num_samples d']:
    """Ancestral sampling from N(0, I), all T steps on the device.

    Args:
      variables: of one model.
      key: step t folds in t, so blocks change no random number.
      num_samples: points.
      block_size: points in one pass through the network; None: all. On a CPU a
        few hundred stay in cache.
    """
    size = min(block_size or num_samples, num_samples)
    num_blocks = -(-num_samples // size)
    shape = (num_blocks * size, self.num_features)

    def step(x, t):
      predict = lambda block: self.predict_noise(variables, block, t[None])
      blocks = x.reshape(num_blocks, size, -1)
      predicted = jax.lax.map(predict, blocks).reshape(shape)
      noise = jax.random.normal(jax.random.fold_in(key, t), shape)
      return denoise(self.schedule, x, predicted, t, noise), None

    start = jax.random.fold_in(key, self.num_steps)
    x = jax.random.normal(start, shape)
    steps = jnp.arange(self.num_steps)[::-1]
    return jax.lax.scan(step, x, steps)[0][:num_samples]
