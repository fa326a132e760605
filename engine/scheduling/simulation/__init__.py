"""A world for the scheduler: the real one, driven through a seeded run of tasks and faults, with its promises checked at every step.

Everything random comes from one `random.Random(seed)`, and time is an event queue, so a seed is a whole history and replays exactly. The
world plays the parts around the scheduler (journal with group commit and pages, control, instances, models, clients) as simply as
they can be; nothing of it runs in the product.
"""
