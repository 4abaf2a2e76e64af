/* Products of matrices. A matrix is an array, the position of its first element, and the strides of rows and columns. */

/** c = a b, with a (m, k), b (k, n) and c (m, n), whose columns follow each other. */
function product(m, k, n, a, aStart, aRow, aColumn, b, bStart, bRow, bColumn, c, cStart, cRow) {
  for (let i = 0; i < m; i++) c.fill(0, cStart + i * cRow, cStart + i * cRow + n);
  addProduct(m, k, n, a, aStart, aRow, aColumn, b, bStart, bRow, bColumn, c, cStart, cRow);
}

/** c += a b: row by row, by the order in which the elements of b follow each other in memory. */
function addProduct(m, k, n, a, aStart, aRow, aColumn, b, bStart, bRow, bColumn, c, cStart, cRow) {
  const add = bColumn === 1 ? addRows : addDots;
  for (let i = 0; i < m; i++) {
    add(k, n, a, aStart + i * aRow, aColumn, b, bStart, bRow, bColumn, c, cStart + i * cRow);
  }
}

/** c += Σₖ aₖ bₖ, where each bₖ is a row: four of them at a time, so that c is read and written a quarter as often. */
function addRows(k, n, a, aStart, aStride, b, bStart, bRow, bColumn, c, cStart) {
  let p = 0, x = aStart, y = bStart;
  for (; p + 4 <= k; p += 4, x += 4 * aStride, y += 4 * bRow) {
    const a0 = a[x], a1 = a[x + aStride], a2 = a[x + 2 * aStride], a3 = a[x + 3 * aStride];
    const b1 = y + bRow, b2 = y + 2 * bRow, b3 = y + 3 * bRow;
    for (let j = 0; j < n; j++) {
      c[cStart + j] += a0 * b[y + j] + a1 * b[b1 + j] + a2 * b[b2 + j] + a3 * b[b3 + j];
    }
  }
  for (; p < k; p++, x += aStride, y += bRow) {
    const ap = a[x];
    for (let j = 0; j < n; j++) c[cStart + j] += ap * b[y + j];
  }
}

/** cⱼ += Σₖ aₖ bₖⱼ, where each column of b is contiguous, or nothing is: four columns at a time. */
function addDots(k, n, a, aStart, aStride, b, bStart, bRow, bColumn, c, cStart) {
  let j = 0, y = bStart;
  for (; j + 4 <= n; j += 4, y += 4 * bColumn) {
    let s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (let p = 0, x = aStart, q = y; p < k; p++, x += aStride, q += bRow) {
      const ap = a[x];
      s0 += ap * b[q];
      s1 += ap * b[q + bColumn];
      s2 += ap * b[q + 2 * bColumn];
      s3 += ap * b[q + 3 * bColumn];
    }
    c[cStart + j] += s0;
    c[cStart + j + 1] += s1;
    c[cStart + j + 2] += s2;
    c[cStart + j + 3] += s3;
  }
  for (; j < n; j++, y += bColumn) {
    let sum = 0;
    for (let p = 0, x = aStart, q = y; p < k; p++, x += aStride, q += bRow) sum += a[x] * b[q];
    c[cStart + j] += sum;
  }
}
