"""Slow, obvious twins of the routing metrics, written straight from the definitions."""

import math

import numpy as np


def random_routing(seed, num_samples=6, num_layers=3, num_experts=5, concentration=0.5):
    """Routing weights of random sharpness, rows summing to 1."""
    rng = np.random.default_rng(seed)
    alpha = np.full(num_experts, concentration)
    return rng.dirichlet(alpha, size=(num_samples, num_layers))


def selected_experts(weights_K, threshold):
    """Experts by falling weight, ties to the lower id, until the running sum exceeds tau."""
    ranked = sorted(range(len(weights_K)), key=lambda expert: (-weights_K[expert], expert))
    chosen, total = [], 0.0
    for expert in ranked:
        chosen.append(expert)
        total += weights_K[expert]
        if total > threshold:
            break
    return chosen


def pathway_string(weights_LK, threshold):
    return "-".join(
        ",".join(str(expert) for expert in selected_experts(weights_K, threshold))
        for weights_K in weights_LK
    )


def levenshtein(a, b):
    """The textbook table of insertions, deletions and substitutions."""
    table = [[i + j if i * j == 0 else 0 for j in range(len(b) + 1)] for i in range(len(a) + 1)]
    for i in range(1, len(a) + 1):
        for j in range(1, len(b) + 1):
            table[i][j] = min(
                table[i - 1][j] + 1,
                table[i][j - 1] + 1,
                table[i - 1][j - 1] + (a[i - 1] != b[j - 1]),
            )
    return table[len(a)][len(b)]


def pathway_distance(a, b, normalize):
    edits = levenshtein(a, b)
    return edits / max(len(a), len(b), 1) if normalize else edits


def mean_pairwise(pathways, normalize):
    distances = [
        pathway_distance(pathways[i], pathways[j], normalize)
        for i in range(len(pathways))
        for j in range(i + 1, len(pathways))
    ]
    return sum(distances) / len(distances)


def mean_cross(pathways_a, pathways_b, normalize):
    distances = [pathway_distance(a, b, normalize) for a in pathways_a for b in pathways_b]
    return sum(distances) / len(distances)


def embedding(weights_K, router_KD, centred):
    rows = router_KD - router_KD.mean(axis=0) if centred else router_KD
    return sum(weight * row for weight, row in zip(weights_K, rows, strict=True))


def cosines(weights_LK, router_LKD, centred=False):
    values = []
    for layer in range(len(weights_LK) - 1):
        a = embedding(weights_LK[layer], router_LKD[layer], centred)
        b = embedding(weights_LK[layer + 1], router_LKD[layer + 1], centred)
        values.append(float(a @ b) / math.sqrt(float(a @ a) * float(b @ b)))
    return values


def roughness(cosine_values):
    """C_i of arXiv 2506.21551, sec. 4.2, as printed."""
    ratios = [cosine / (max(cosine_values) + 1e-8) for cosine in cosine_values]
    return 1 - sum(ratios) / len(ratios)


def memorization_step(losses_T, steps_T, epsilon, delta):
    for start, step in enumerate(steps_T):
        if all(loss <= epsilon and abs(loss - losses_T[-1]) <= delta for loss in losses_T[start:]):
            return step
    return -1


def share_memorized_before_end(losses_NT, steps_T, epsilon, delta):
    found = [memorization_step(losses_T, steps_T, epsilon, delta) for losses_T in losses_NT]
    return sum(step not in (-1, steps_T[-1]) for step in found) / len(found)


def generalization_step(correct_T, steps_T, start_correct):
    for start, step in enumerate(steps_T):
        rest = correct_T[start:]
        if start_correct and not rest[0]:
            continue
        if sum(rest) / len(rest) > 0.8 and sum(not right for right in rest) <= 1:
            return step
    return -1
