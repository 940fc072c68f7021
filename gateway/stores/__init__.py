"""Operations on the model stores, carried out: the shell of `gateway/store/`, which decides."""
