"""What the report says: its sections, what every value and every picture is called."""

from __future__ import annotations

from gan3d_eval.canaries import CANARIES

__all__ = ["CAPTIONS", "LABELS", "OPTIONAL", "SECTIONS"]

# verb, title, folder of its pictures, what it shows and how to read it
SECTIONS = (
    ("gallery", "Gallery", "gallery", """
Shapes as they were drawn, by a rule stated above each sheet: nothing is picked by hand and nothing is cleaned up."""),
    ("nn-check", "Nearest-neighbour check", "figures", """
Does G copy its training shapes? Each sample's distance to the nearest training shape is set against the same distance of
held-out shapes, which G never saw: under L1 and Jaccard, in place, over every shift and turn (aligned), and with both shapes
peeled to equal size, which finds thickened and noisy copies. An honest sampler is as far away as they are: A near 0.5, and 5 %
of its samples nearer than 95 % of the held-out shapes. Far more, or exact copies, speak of copying; values of A well above 0.5
of shapes unlike the data: look at them before calling them novel. Canaries are copies made on purpose: what the check does not
flag of them it would not see in the samples either."""),
    ("compare", "Generated against real", "figures", """
Each measure is taken of equally many generated shapes, real (training) shapes, copies of the mean
shape, and noise, against the same held-out shapes. Read a value beside the one of real shapes: that is what a perfect generator
reaches, and a copying one too, which these measures cannot see."""),
    ("classify-features", "What D knows", "figures", """
A linear machine on D's features, which were learned without labels. Beside it the same machine on discriminators that never
trained, on the voxels themselves, pooled, and with shuffled labels: the gain over these is what training brought."""),
    ("human-eval", "What people say", "figures", """
How often people took generated shapes for real (the fooling rate), beside how often they said so of real ones (the hit rate):
that is what a perfect generator reaches. d′ is 0 where the two cannot be told apart. Believe the clustered intervals: raters
differ, and so do shapes. A generator that copies its training set fools everybody."""),
    ("history", "Over training", "figures", """
The same measures at every checkpoint, of equally many shapes. The best one is chosen by the rule below the table, on held-out
shapes: a choice among many flatters the chosen."""),
    ("threshold-sweep", "Threshold", "figures", """
The same samples, occupied where G's probability is above other thresholds. A sharp generator does not care."""),
    ("explore", "Latent space", "figures", """
What lies between the samples. Along a path no single step should make most of the change, and the middle should be as far from
the training shapes as the ends: jumps from one training shape to the next are what a generator does that learned by heart. An
attribute moves all the way (1) where the difference of two mean latents, added to other samples, changes them by as much as the
two groups differ. Recovery looks for real shapes in the latent space: training shapes found far better than held-out ones
(values of A well above 0.5) speak of memorising; G's own samples are the control, which the search must find."""),
    ("curves", "Training curves", "figures", """
Means over the last tenth of training. D learns only while its accuracy is at most the gate, so its share of updates tells
how far ahead of G it is; a D that is never updated, beside a G whose occupancy leaves the data's, is a deadlock."""),
)  # fmt: skip
OPTIONAL = ("classify-features", "history", "threshold-sweep", "explore", "human-eval")
"""Sections that are left out where nothing was made."""
LABELS = {
    "n": "Samples",
    "n_judged": "Samples judged",
    "n_distinct": "… different shapes among them",
    "n_train": "Training shapes",
    "n_null": "Held-out shapes in the null",
    "null": "Null",
    "empty": "Empty samples",
    "too_small": "Samples too small to judge",
    "exact_copies": "Exact copies",
    "smallest_volume": "Smallest volume judged (voxels)",
    "null_in_train": "Held-out shapes that stand in training too",
    "null_too_small": "Held-out shapes too small",
    "repeats": "Samples that repeat another one exactly",
    "verdict": "Verdict",
    "median": "Median distance to training",
    "null_median": "The same of held-out shapes",
    "null_copies": "Held-out shapes at distance 0, which are no null (moved copies in the data)",
    "authentic": "Farther from the neighbour than that from its own (AuthPct, L1)",
    "authentic_null": "The same of held-out shapes",
    "c_t": "C_T by cells, L1 (far below 0: copying)",
    **{f"caught_{name}": f"Canaries flagged: {name}" for name in CANARIES},
    **{f"a_{name}": f"A of canaries: {name}" for name in CANARIES},
    "l1_share_median": "Median L1 to training, as share of own volume",
    "distinct_neighbours": "Distinct neighbours",
    "a_far": "A = P(sample farther than held-out shape)",
    "z_u": "Z of Mann–Whitney's U (below 0: nearer)",
    "flagged": "Samples with p ≤ 0.05",
    "flagged_share": "Their share",
    "flagged_expected": "Share expected of an honest sampler",
    "significant": "Flagged after Benjamini–Hochberg at 5 %",
    "p_floor": "Smallest possible p",
    "n_samples": "Samples drawn from",
    "valid": "Share with a volume as 98 % of the data have",
    "coverage_l1": "Coverage (COV), L1",
    "coverage_jaccard": "Coverage (COV), Jaccard",
    "one_nna_l1": "1-NNA, L1 (0.5 is ideal)",
    "one_nna_gen_l1": "… on the shapes themselves",
    "one_nna_ref_l1": "… on held-out shapes",
    "one_nna_jaccard": "1-NNA, Jaccard (0.5 is ideal)",
    "one_nna_gen_jaccard": "… on the shapes themselves",
    "one_nna_ref_jaccard": "… on held-out shapes",
    "mmd_l1": "Minimum matching distance (MMD), L1, voxels",
    "mmd_jaccard": "Minimum matching distance (MMD), Jaccard",
    "jsd": "Jensen–Shannon divergence of places",
    "coverage_chamfer": "Coverage (COV), Chamfer",
    "one_nna_chamfer": "1-NNA, Chamfer (0.5 is ideal)",
    "one_nna_gen_chamfer": "… on the shapes themselves",
    "one_nna_ref_chamfer": "… on held-out shapes",
    "mmd_chamfer": "Minimum matching distance (MMD), Chamfer, squared sides of the grid",
    "ks_volume": "Kolmogorov–Smirnov distance: volume",
    "ks_components": "… number of components",
    "ks_largest_share": "… share of the largest component",
    "ks_euler": "… Euler number (parts − tunnels + cavities)",
    "ks_extent_x": "… extent along x",
    "ks_extent_y": "… extent along y",
    "ks_extent_z": "… height",
    "ks_symmetry_x": "… symmetry across x",
    "ks_interior": "… interior voxels",
    "fd": "Fréchet distance of D's features (FD)",
    "fd_infinity": "… extrapolated to infinitely many shapes (FD∞)",
    "kid": "Kernel distance of D's features (KID)",
    "kid_p": "… p of one distribution",
    "precision": "Precision of D's features",
    "recall": "Recall of D's features",
    "density": "Density of D's features (1 for equal distributions)",
    "coverage_knn": "Coverage of D's features, 5 neighbours",
    "one_nna_feature": "1-NNA, D's features (0.5 is ideal)",
    "one_nna_gen_feature": "… on the shapes themselves",
    "one_nna_ref_feature": "… on held-out shapes",
    "fld": "Feature likelihood divergence (FLD)",
    "fld_gap": "… gap between training and held-out shapes (far below 0: memorised)",
    "vendi": "Vendi score: effective number of different shapes",
    "n_test": "Test shapes",
    "n_classes": "Classes",
    "leaked": "Test shapes that stand in training too",
    "accuracy": "Accuracy, overall",
    "mean_class_accuracy": "Accuracy, mean of classes",
    "accuracy_without_leaks": "Accuracy without test shapes that stand in training",
    "folds_accuracy": "Accuracy on folds of the training shapes",
    "c": "C, chosen on these folds",
    "constant_features": "Features that are constant, left out",
    "p_untrained": "p of D being no better than an untrained one (McNemar, largest of its seeds)",
    "more_right_than_untrained": "Test shapes that D gets right beyond an untrained one, mean",
    "checkpoints": "Checkpoints judged",
    "best_step": "Best checkpoint, step",
    "best_one_nna_l1": "… its 1-NNA, L1",
    "best_coverage_l1": "… its coverage, L1",
    "best_valid": "… its share of valid volume",
    "best_a_far": "… its A",
    "between_share": "Probabilities between 0.1 and 0.9, of those above 0.1",
    "one_nna_l1_low": "Lowest 1-NNA, L1, over thresholds",
    "one_nna_l1_high": "Highest 1-NNA, L1, over thresholds",
    "largest_jump": "Largest of eight steps along a path, as share of the whole change (1/8 is even)",
    "volume_midway": "Volume midway, in volumes of the ends",
    "jaccard_ends": "Jaccard distance to training, at the ends",
    "jaccard_midway": "… midway",
    "moved_extent_x": "Width moved by arithmetic, as share of the way",
    "moved_extent_y": "… depth",
    "moved_extent_z": "… height",
    "moved_volume": "… volume",
    "strongest_effect": "Strongest z: Jaccard distance between its ends",
    "median_effect": "… median z",
    "effective_dimensions": "Effective number of dimensions, (Σ effect)² ÷ Σ effect²",
    **{
        f"{key}_{name}": f"{label} {whose}"
        for name, whose in (
            ("samples", "G's own samples"),
            ("train", "training shapes"),
            ("test", "held-out shapes"),
            ("theirs", "yours"),
        )
        for key, label in (
            ("recovered", "Recovered in the latent space (IoU):"),
            ("nearest_sample", "… nearest of 1,000 samples:"),
        )
    },
    "a_recovered": "A = P(training shape is recovered better than held-out one)",
    "raters": "Raters",
    "answers": "Answers",
    "failed_checks": "Raters left out: attention checks failed",
    "too_few_checks": "… too few answered",
    "fooling_rate": "Fooling rate: generated shapes called real",
    "fooling_rate_lead": "Lead in fooling rate over another run",
    "fooling_rate_clustered": "… allowing for raters and shapes that differ",
    "hit_rate": "Hit rate: real shapes called real",
    "hit_rate_clustered": "… allowing for raters and shapes that differ",
    "d_prime": "d′ (0: cannot be told apart)",
    "criterion": "Criterion (below 0: “real” comes easily)",
    "alpha": "Agreement, Krippendorff's α",
    "preferred": "Preferred, of its pairs",
    "preferred_over": "Preferred over another run",
    "preferred_clustered": "… allowing for raters and shapes that differ",
    "strength": "Bradley–Terry score (log-odds, of mean 0)",
    "said_a": "Answers for A (0.5: no side is favoured)",
    "median_seconds": "Median time to an answer, seconds",
    "steps": "Steps",
    "epochs": "Epochs",
    "seconds_per_epoch": "Seconds per epoch (median)",
    "last_loss_d": "Loss of D",
    "last_loss_g": "Loss of G",
    "last_acc_d": "Accuracy of D",
    "last_acc_d_real": "… on real shapes",
    "last_acc_d_fake": "… on generated shapes",
    "last_d_updated": "Share of steps in which D learned",
    "last_occupancy_g": "Occupied share of G's grids",
    "d_updated_share": "Share of D updates, whole run",
    "steps_since_d_update": "Steps since D last learned",
}
# What a picture shows, in the order in which pictures stand.
CAPTIONS = {
    "samples": "Generated shapes, as drawn",
    "training": "Training shapes, drawn at random",
    "pairs": "Generated shapes as drawn, each beside the training shape nearest under L1",
    "best": "The best: samples nearest to held-out shapes",
    "worst": "The worst: samples farthest from held-out shapes",
    "thresholds": "The first samples, cut at other thresholds",
    "turntable": "The first samples from all sides",
    "progress": "The same latents through training",
    "distances": "Distance to the nearest training shape: generated against held-out shapes",
    "most-train-like": "The most train-like samples, each beside its nearest training shape",
    "median": "Samples of median distance, each beside its nearest training shape",
    "measures": "Each measure of generated and real shapes, of the mean shape and of noise, against held-out shapes",
    "confusion": "True classes against predicted ones",
    "sizes": "Accuracy from few training shapes of each class",
    "history": "Quality and novelty at every checkpoint, beside what real shapes reach",
    "threshold-sweep": "Quality and novelty of the same samples at other thresholds",
    "paths": "Paths from sample to sample, straight and round, with the nearest training shapes",
    "morph": "Round trip through four samples",
    "arithmetic": "A − B + C: what two groups differ in, added to other samples",
    "dimensions": "One z at a time",
    "recovery-samples": "Samples drawn for this (not those above), looked for in G's latent space",
    "recovery-train": "Training shapes, looked for in the latent space",
    "recovery-test": "Held-out shapes, looked for in the latent space",
    "recovery-theirs": "Your shapes, looked for in the latent space",
    "map": "Real and generated shapes where their features put them",
    "curves": "Losses, accuracy of D, share of D updates, occupancy of G's grids",
}
