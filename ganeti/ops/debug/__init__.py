"""Operations that help to test and to look inside."""
