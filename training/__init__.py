"""How the shipped model and its adapters are made: data, tokenizer, training, evaluation, card.

Not part of the wheel and never imported by the product; it may import torch, transformers and peft, which the product may not.
`python -m training` (or `make model`) rebuilds everything in engine/inference/shipped/ from one seed.
"""
