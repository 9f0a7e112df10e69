"""Training of the matting network: python -m matting.training configs/train_live.yaml

recipe.py   what a training run is, read from YAML
data.py     batches of labelled pictures, the same for the same step, always
matching.py which code answers for which person
losses.py   what is asked of the network, and its terms
validate.py scores on pictures never trained on, and sheets to look at
loop.py     the run: resume, schedule, moving average, checkpoints, publishing
showing.py  pictures shown to a finished network, one at a time, to learn from its answers:
verdict.py  who is somebody, once it is known what a code claims
identity.py who is who over time
finish.py   puts both into the weights: python -m matting.training.finish configs/train_finish.yaml
"""
