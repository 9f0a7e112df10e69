"""The matting network, one idea of the E2E-HIM paper (arXiv 2403.01510) per file.

backbone.py    pictures to features (MobileNetV2)
pose.py        where joints are, and whose, at half the size (MoveNet MultiPose, never trained)
perception.py  general perception: seeds, latent codes, existence, dynamic kernels
guidance.py    united guidance: spatial attention and semantics embedding over the people
instances.py   instance matting: decoder, dynamic trimap and alpha heads
detail.py      alpha at the frame's own resolution
looks.py       what a person looks like, for two heads that are taught last:
verdict.py     whether a code is somebody, once it is known what it claims
identity.py    who somebody is over time
live.py        the live network put together; its sizes travel with its weights
"""
