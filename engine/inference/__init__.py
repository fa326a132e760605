"""Model processes and everything about running models: the process (`process`, `stepper`), the backends it drives, the
supervisor that keeps one alive, and `service`, which the rooms above ask for a model by name and get a `ModelHandle`.
What may not live here: tasks, queues, scheduling decisions (a slot is reserved before a request arrives), prompts, storage."""
