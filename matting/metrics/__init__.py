"""What "good" means, as pure functions: mattes, people of a picture, identities of a video.

`alpha` compares one matte with its truth, `instances` the people of a picture with the true
people, `identity` the numbers people carry over a video.  Every function cites its definition.
"""

from matting.metrics.alpha import conn, dtssd, grad, iou, mad, messddt, mse, sad
from matting.metrics.identity import (
    GapScores,
    IdentityFrame,
    IdentityScores,
    gap_scores,
    identity_scores,
    mask_frame,
)
from matting.metrics.instances import (
    ErrorCounts,
    InstanceErrors,
    MattingQuality,
    QualityCounts,
    combined_errors,
    combined_quality,
    error_counts,
    instance_errors,
    match,
    matting_quality,
    overlap_matrix,
    pair_error,
    quality_counts,
)

__all__ = [
    "ErrorCounts",
    "GapScores",
    "IdentityFrame",
    "IdentityScores",
    "InstanceErrors",
    "MattingQuality",
    "QualityCounts",
    "combined_errors",
    "combined_quality",
    "conn",
    "dtssd",
    "error_counts",
    "gap_scores",
    "grad",
    "identity_scores",
    "instance_errors",
    "iou",
    "mad",
    "mask_frame",
    "match",
    "matting_quality",
    "messddt",
    "mse",
    "overlap_matrix",
    "pair_error",
    "quality_counts",
    "sad",
]
