"""The tables that say what a study cannot show: its power, and what is left out of it."""

from store.columns import DOMAIN, SERIES, Table, real, text, whole

TABLES = (
    Table(
        "power",
        "How often the verdict test would see a monitor equal to the true accuracy (simulated).",
        (
            SERIES,
            DOMAIN,
            whole("num_checkpoints", "Checkpoints from the onset of the rise of accuracy on."),
            whole("num_documents", "Documents that the accuracy is counted on."),
            real("wobble", "Standard deviation around the trend beyond counting noise.", True),
            real("counting_noise", "Standard deviation that single documents add.", True),
            real("power", "Share of simulated runs seen at the level, uncorrected, 0 to 1."),
            whole("num_tests", "Tests of the paper's monitors that share Holm's correction."),
            real("corrected_power", "The same share at the level over num_tests, 0 to 1."),
        ),
    ),
    Table(
        "left_out",
        "Checkpoints that are there and are not in their series.",
        (
            SERIES,
            text("revision", "Name of the checkpoint's folder or revision."),
            whole("step", "Its optimizer step."),
            text("reason", "Why it is left out."),
        ),
    ),
)
