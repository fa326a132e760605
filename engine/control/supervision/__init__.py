"""Supervision: who looks at what a worker did, what they say of it, and what becomes of that.

A task that ends under a supervisor leaves a review that is due, in the transaction of its end. Rules judge at once; an agent is asked
through the budget like any caller of a model, sees what the task did as data and not as words to it, and its answer counts only if it
is what was asked for."""
