"""How bytes become messages: line framing, JSON-RPC, peers over pipes and sockets, and the spawning of child processes.

One protocol on every hop (DESIGN §2). Nothing here knows what a request means; that is the contract's and the rooms' business."""
