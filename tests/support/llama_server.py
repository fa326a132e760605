"""llama.cpp's own HTTP server (from xllamacpp) as a program that takes llama-server's words, where that program is not to be had."""

from __future__ import annotations

import argparse
import signal

import xllamacpp


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("-m", dest="model", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--alias", default="model")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--ctx-size", type=int, default=512)
    parser.add_argument("--jinja", action="store_true")
    given = parser.parse_args()
    settings = xllamacpp.CommonParams()
    settings.model.path = given.model
    settings.hostnames, settings.port = [given.host], given.port
    settings.model_alias = {given.alias}
    settings.n_parallel, settings.n_ctx, settings.use_jinja = given.parallel, given.ctx_size, given.jinja
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = 1
    settings.n_gpu_layers, settings.warmup = 0, False
    server = xllamacpp.Server(settings)
    print(f"listening at {server.listening_address}", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
