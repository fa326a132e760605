"""The HTTP door: OpenAI's protocol in front of the queues, in a process of its own (`aiwm http`).

It is a client of the engine's socket like every other: a chat completion is a task in a queue, with its history, its limits and its
place in line. Nothing here decides anything; what HTTP says is translated, asked, and translated back."""
