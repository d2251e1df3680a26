import { expect, it } from 'vitest';
import { kvmObstacle } from '../../../arch/x86_64/x86_64.js';
import { withForbiddenFile } from '../../ordinaryUser.js';

const WITH = 'flags : fpu vmx\n';

it('nothing is in the way of a processor with vmx or svm and a device that opens', () => {
  expect(kvmObstacle(WITH, '/dev/null')).toBeUndefined();
});

it('says what is: the processor, no device, no permission', async () => {
  expect(kvmObstacle('flags : fpu\n', '/dev/null')).toMatch(/neither vmx nor svm/);
  expect(kvmObstacle(WITH, '/nonexistent/kvm')).toMatch(/there is no \/nonexistent\/kvm \(ENOENT\): load/);
  await withForbiddenFile((path) => {
    expect(kvmObstacle(WITH, path)).toBe(`${path} is not yours to open: join its group, kvm`);
  });
});
