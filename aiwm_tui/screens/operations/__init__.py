"""Operations: changes that were asked for, and taking them back."""
