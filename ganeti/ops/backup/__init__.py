"""Operations on instance exports."""
