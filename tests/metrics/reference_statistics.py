"""Slow, obvious twins of the statistics, written from the definitions."""

from itertools import combinations, permutations
from math import log, sqrt

import numpy as np


def exact_permutation_p(x, y):
    observed = abs(np.corrcoef(x, y)[0, 1])
    values = [abs(np.corrcoef(x, order)[0, 1]) for order in permutations(y)]
    return sum(value >= observed - 1e-12 for value in values) / len(values)


def gating_kernel(routing_weights_NLK):
    num_samples, num_layers, num_experts = routing_weights_NLK.shape
    kernel = np.zeros((num_samples, num_samples))
    for i in range(num_samples):
        for j in range(num_samples):
            for layer in range(num_layers):
                for expert in range(num_experts):
                    kernel[i, j] += (
                        routing_weights_NLK[i, layer, expert]
                        * routing_weights_NLK[j, layer, expert]
                        / num_layers
                    )
    return kernel


def bound(kernel, targets, ridge, noise_variance, confidence):
    """Effective dimension, bias, variance and noise straight from the N x N inverse."""
    num_samples = len(kernel)
    inverse = np.linalg.inv(kernel + ridge * np.eye(num_samples))
    dimension = np.trace(kernel @ inverse)
    bias = ridge**2 / num_samples * targets @ inverse @ inverse @ targets
    variance = noise_variance * dimension / num_samples
    return dimension, bias, variance, noise_variance * log(1 / confidence) / num_samples


def mean_squared_hellinger(routing_weights_NLK):
    distances = []
    for first, second in combinations(routing_weights_NLK, 2):
        for p, q in zip(first, second, strict=True):
            distances.append(0.5 * sum((sqrt(a) - sqrt(b)) ** 2 for a, b in zip(p, q, strict=True)))
    return sum(distances) / len(distances)


def total_variance(routing_weights_NLK):
    """Half the mean squared distance of two samples drawn with replacement, mean over layers."""
    num_samples, num_layers, _ = routing_weights_NLK.shape
    total = 0.0
    for first in routing_weights_NLK:
        for second in routing_weights_NLK:
            total += ((first - second) ** 2).sum() / 2
    return total / num_samples**2 / num_layers
