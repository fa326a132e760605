"""Server programs that are not ours (llama-server, vLLM, TabbyAPI, …): started with a port, probed, logged, restarted and unloaded like
model processes; and servers that run already, which are only probed. What is asked of them goes over their HTTP interface, elsewhere."""
