"""The handler table: every request comes through here, whoever asks and by whichever door.

Here a request is decoded, its principal's right to its effect is checked, it is audited and handed to the room that
answers it. Nothing here knows what any request does."""
