"""Kernels of our own in NKI, and in ``measured`` those whose device times are published.

The library (``library.library()``: each kernel with its inputs, its values and the operator formula of its time):

| room | kernels |
|---|---|
| ``gemm`` | matrix products in bf16, fp16, fp32, fp8 and MX; their blocks: ``blocks``, layouts: ``gemm_layout`` |
| ``norms`` | RMSNorm, LayerNorm, softmax |
| ``rowwise`` | copy, cast, residual sum, SiLU with its gate, rotary embeddings |
| ``quantise`` | FP8 with a scale to each row, MX |
| ``optimiser`` | AdamW |
| ``attention``, ``mlp``, ``moe`` | attention of prompts and of new tokens, its backward pass; SwiGLU MLP; experts |
"""
