"""Models behind an address: servers that speak OpenAI's or Anthropic's protocol, as coroutines of the engine behind `ports.ModelHandle`.

`sse`, `openai`, `anthropic`, `refusals` and `health` are pure: bytes and numbers in, values out. `connection` is the only module that
opens sockets, `model` and `hybrid` are what the rooms above see. What a server says is data: bounded, cleaned before it is shown, never
followed. Keys come from the ring for each call, go to the hosts that they are listed for, and are kept nowhere."""
