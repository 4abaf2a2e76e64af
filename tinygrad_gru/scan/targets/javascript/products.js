/* Products of matrices, and integers. A matrix is an array, the position of its first element, and the strides of rows
and columns. */

/** c = a b, with a (m, k), b (k, n) and c (m, n), whose columns follow each other. */
function product(m, k, n, a, aStart, aRow, aColumn, b, bStart, bRow, bColumn, c, cStart, cRow) {
  for (let i = 0; i < m; i++) c.fill(0, cStart + i * cRow, cStart + i * cRow + n);
  addProduct(m, k, n, a, aStart, aRow, aColumn, b, bStart, bRow, bColumn, c, cStart, cRow);
}

/** c += a b: row by row of c, eight columns at a time, whose sums over k stay in registers. */
function addProduct(m, k, n, a, aStart, aRow, aColumn, b, bStart, bRow, bColumn, c, cStart, cRow) {
  for (let i = 0; i < m; i++) addRow(k, n, a, aStart + i * aRow, aColumn, b, bStart, bRow, bColumn, c, cStart + i * cRow);
}

/** c += a b, with a (k), b (k, n) and c (n). */
function addRow(k, n, a, aStart, aStride, b, bStart, bRow, bColumn, c, cStart) {
  const second = bColumn, third = 2 * bColumn, fourth = 3 * bColumn, fifth = 4 * bColumn;
  const sixth = 5 * bColumn, seventh = 6 * bColumn, eighth = 7 * bColumn;
  let j = 0, column = bStart;
  for (; j + 8 <= n; j += 8, column += 8 * bColumn) {
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0, s4 = 0, s5 = 0, s6 = 0, s7 = 0;
    for (let p = 0, x = aStart, y = column; p < k; p++, x += aStride, y += bRow) {
      const ap = a[x];
      s0 += ap * b[y];
      s1 += ap * b[y + second];
      s2 += ap * b[y + third];
      s3 += ap * b[y + fourth];
      s4 += ap * b[y + fifth];
      s5 += ap * b[y + sixth];
      s6 += ap * b[y + seventh];
      s7 += ap * b[y + eighth];
    }
    const z = cStart + j;
    c[z] += s0; c[z + 1] += s1; c[z + 2] += s2; c[z + 3] += s3;
    c[z + 4] += s4; c[z + 5] += s5; c[z + 6] += s6; c[z + 7] += s7;
  }
  for (; j < n; j++, column += bColumn) {
    let sum = 0;
    for (let p = 0, x = aStart, y = column; p < k; p++, x += aStride, y += bRow) sum += a[x] * b[y];
    c[cStart + j] += sum;
  }
}

/** An index of an axis of length n, counted from its end if it is negative. */
function position(i, n) {
  if (!(i >= -n && i < n)) throw new RangeError(`index ${i} is out of bounds for an axis of length ${n}`);
  return i < 0 ? i + n : i;
}

/** ⌊a / b⌋ of integers; 0 if b is 0. */
function floorDivide(a, b) {
  return b === 0 ? 0 : (a - remainder(a, b)) / b;
}

/** a − b ⌊a / b⌋ of integers; 0 if b is 0. */
function remainder(a, b) {
  const rest = b === 0 ? 0 : a % b;
  return rest !== 0 && rest < 0 !== b < 0 ? rest + b : rest + 0;
}

/** An integer of 64 bits, of which a number has 53. */
function safe(i) {
  if (!Number.isSafeInteger(i)) throw new RangeError(`${i} is not an integer of 53 bits`);
  return i;
}
