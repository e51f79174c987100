"""Without test subjects nothing is measured; what can be looked at are the predictions for training scans."""

from deepatlas_tf.datasets.load import DataSet
from deepatlas_tf.evaluation.figures import spoken
from deepatlas_tf.evaluation.summary import method_order
from deepatlas_tf.messages import progress
from deepatlas_tf.report import pictures
from deepatlas_tf.report.document import Block, Heading, Paragraph
from deepatlas_tf.runs.predict import Predictors, load_predictors
from deepatlas_tf.runs.summary import RunSummary
from deepatlas_tf.streams.subjects import in_domain, read_samples
from deepatlas_tf.types import DataError

SCANS = 3


def training_scans(run: RunSummary, dataset: DataSet | None, no_data: str) -> list[Block]:
    """Pictures of what the last segmentation network says of the first scans of training without a label map in use.

    Those with one follow where there are fewer. A paragraph in their place where the scans or the networks are not
    there; nothing where no segmentation was trained.
    """
    if dataset is None:
        return [Paragraph(f"No pictures of scans: {no_data}", notice=True)]
    try:
        predictors = load_predictors(run.path)
    except DataError as error:  # the networks were deleted, or are damaged
        return [Paragraph(f"No pictures of scans: {error}", notice=True)]
    if not predictors.labellers:
        return []
    method = method_order(predictors.labellers)[-1]
    subjects = _shown(run, dataset, predictors, method)
    samples, name = read_samples(dataset.samples("train"), subjects), f"{run.dataset}, train split"
    blocks: list[Block] = [Heading("Scans of training")]
    blocks.append(Paragraph(f"Nothing is measured: what {spoken(method)} says of scans, for you to look at."))
    for subject in progress(subjects, desc="drawing segmentations"):
        image = samples[subject]["image"]
        labels = {method: predictors.labellers[method](image)}
        blocks.append(pictures.predicted(subject, image, labels, dataset, name))
    return blocks


def _shown(run: RunSummary, dataset: DataSet, predictors: Predictors, method: str) -> tuple[str, ...]:
    """The first subjects of the method's domain, those whose label map no training has seen before the others."""
    subjects = in_domain(dataset.subjects["train"], dataset.domains, predictors.domains[method][1])
    used = run.data["used_labels"] if run.data else ()
    return tuple(sorted(subjects, key=lambda subject: subject in used))[:SCANS]
