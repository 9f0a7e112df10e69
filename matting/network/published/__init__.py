"""The published E2E-HIM network, Swin-T variant (arXiv 2403.01510), one idea of the paper per file.

parts.py       norms, residual bottleneck: what all sub-networks are built from
swin.py        the image encoder: a Swin Transformer behind a small convolutional stem
perception.py  general perception: features, latent codes, existence, dynamic kernels
guidance.py    united guidance: spatial attention and semantics embedding
instances.py   instance matting: decoder, trimap head
detail.py      the alpha head at full size, its linear pair fused with each code's kernel
network.py     the network put together; its sizes travel with its weights
convert.py     the authors' checkpoint, turned into weights of this network
export.py      ONNX

Dynamic convolutions, decoder layers and small parts are those of the live variant
(matting/network/blocks.py, perception.py).
"""
