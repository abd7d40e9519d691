"""Types of what many functions of the host take."""

import jax
import numpy as np
from jaxtyping import Float, Shaped

__all__ = ['Labels', 'Matrix', 'Points', 'Samples', 'Vector']

# What a caller may pass: checked and made float64 by whoever takes it.
Samples = Shaped[np.ndarray | jax.Array, '...'] | list
Points = Shaped[np.ndarray | jax.Array, '_ _']
Labels = Shaped[np.ndarray | jax.Array, ' _'] | list
# What has been checked.
Matrix = Float[np.ndarray, '_ _']
Vector = Float[np.ndarray, ' _']
