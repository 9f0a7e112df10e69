"""What "good" means, as pure functions: mattes, people of a picture, identities of a video.

`alpha` compares one matte with its truth, `instances` the people of a picture with the true
people, `identity` the numbers people carry over a video.  Every function cites its definition.
"""

from matting.metrics.alpha import conn, dtssd, grad, iou, mad, mse, sad
from matting.metrics.identity import (
    GapScores,
    IdentityFrame,
    IdentityScores,
    gap_scores,
    identity_scores,
)
from matting.metrics.instances import (
    InstanceErrors,
    MattingQuality,
    instance_errors,
    match,
    matting_quality,
    overlap_matrix,
)

__all__ = [
    "GapScores",
    "IdentityFrame",
    "IdentityScores",
    "InstanceErrors",
    "MattingQuality",
    "conn",
    "dtssd",
    "gap_scores",
    "grad",
    "identity_scores",
    "instance_errors",
    "iou",
    "mad",
    "match",
    "matting_quality",
    "mse",
    "overlap_matrix",
    "sad",
]
