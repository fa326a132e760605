"""Directly spawned instances: kept, talked to, retired; and the history of all instances that are no more.

A session is a document of the store, each turn of its conversation another one: both survive the engine. What runs is an
`Instance` like those of pools; what decides whether it may run is the budget and the model's slots, as for tasks."""
