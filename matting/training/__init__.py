"""Training of the matting network: python -m matting.training configs/train_live.yaml

recipe.py   what a training run is, read from YAML
data.py     batches of labelled pictures, the same for the same step, always
matching.py which code answers for which person
losses.py   what is asked of the network, and its terms
validate.py scores on pictures never trained on, and sheets to look at
loop.py     the run: resume, schedule, moving average, checkpoints, publishing
identity.py the identity head, fitted to the finished network: who is who over time
"""
