"""The exllamav2 backend: FP16 and EXL2 models on NVIDIA GPUs.

    availability, toolkit, extension, library   what the machine must have; building and importing exllamav2
    files, rotary, plan                         what a model's directory says, before anything is loaded
    attention                                   the attention that exllamav2's paged mode runs on
    pages, lanes, running                       who is in the batch, and whose the pages of the key-value cache are
    staging, loras                              adapters on the way to the GPU, and on it
    probes                                      whether what was loaded computes what it should
    loading, served, failures                   a loaded model, and what a failing GPU means
    backend                                     all of it behind `backends.base.Backend`

`availability`, `toolkit`, `files`, `rotary` and `plan` import neither torch nor exllamav2 and may be used anywhere; the others belong to
the model process. What may not live here: anything that the reference backend would need too (that is in `backends`)."""
