"""Constrained decoding: an answer that satisfies a JSON Schema, and tool calls that can be made.

A grammar is compiled from the schema (`grammar`), and says before each token which tokens may come next (`constrainer`). This runs in model
processes only: llguidance is imported when the first constrained request comes, and no schema ever makes anything be fetched."""
