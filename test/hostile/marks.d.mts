export function contentOf(mark: number, length: number, offset?: number): Buffer;
